"""What tests of several parts share: fabricated sweeps, stand-ins, small data sets."""
