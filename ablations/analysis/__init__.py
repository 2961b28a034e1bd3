"""From records to tables: seeds, intervals, paired differences, loss CDFs, the paper's numbers."""
