"""The losses themselves: Figure 1 and the derivatives of appendix B."""

from ablations.analysis.study import Study
from ablations.reporting.figures.loss_shapes import plot_derivatives, plot_loss_against_pt
from ablations.reporting.figures.style import new_figure
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import Section, heading, paragraphs, picture


def loss_shapes(study: Study, figures: FigureWriter) -> Section:
    """Two figures that depend on no trial."""
    figure = new_figure(5.0, 3.8)
    plot_loss_against_pt(figure.axes[0])
    first = figures.save(figure, "figure_1_loss")
    figure = new_figure(5.0, 3.8)
    plot_derivatives(figure.axes[0])
    second = figures.save(figure, "derivatives")
    return Section(
        paragraphs(
            heading("The losses"),
            picture(
                first,
                "Figure 1: focal loss against the probability of the true class; "
                "gamma = 0 is cross entropy",
            ),
            picture(second, "Appendix B: the derivative of the loss by the logit"),
        )
    )
