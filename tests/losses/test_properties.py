"""Properties that hold for every input; hypothesis searches for a counterexample."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import losses as L

logit = st.floats(-1e4, 1e4, width=32)
gamma = st.floats(0, 10)
alpha = st.one_of(st.none(), st.floats(0, 1))
quick = settings(max_examples=100, deadline=None, derandomize=True)


@st.composite
def batches(draw):
    """Logits [N, C], target [N] and weight [N], as small as they come."""
    count, classes = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    rows = st.lists(logit, min_size=classes, max_size=classes)
    logits = draw(st.lists(rows, min_size=count, max_size=count))
    target = draw(st.lists(st.integers(0, classes), min_size=count, max_size=count))
    weight = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=count, max_size=count))
    return torch.tensor(logits).requires_grad_(), torch.tensor(target), torch.tensor(weight)


def gradient(loss, logits):
    return torch.autograd.grad(loss.sum(), logits)[0]


@quick
@given(batches(), gamma, alpha)
def test_finite_not_negative_and_below_cross_entropy(batch, gamma, alpha):
    loss = L.focal_loss(*batch, gamma=gamma, alpha=alpha, reduction="none")
    assert loss.isfinite().all() and gradient(loss, batch[0]).isfinite().all()
    assert (loss >= 0).all()
    assert (loss <= L.cross_entropy(*batch, reduction="none")).all()


@quick
@given(batches(), gamma)
def test_gradient_points_away_from_the_truth(batch, gamma):
    logits, target, _ = batch
    slope = gradient(L.focal_loss(*batch, gamma=gamma, reduction="sum"), logits)
    positive = torch.nn.functional.one_hot(target, logits.shape[1] + 1)[:, :-1].bool()
    assert (slope[positive] <= 0).all() and (slope[~positive] >= 0).all()


@quick
@given(batches(), gamma, st.floats(0, 10))
def test_more_gamma_is_less_loss(batch, gamma, more):
    low, high = sorted((gamma, more))
    losses = (L.focal_loss(*batch, gamma=g, reduction="none").double() for g in (low, high))
    less, greater = reversed([*losses])
    assert (less <= greater * (1 + 1e-5) + 1e-30).all()


@quick
@given(batches(), gamma, alpha)
def test_a_batch_is_the_sum_of_its_anchors(batch, gamma, alpha):
    options = {"gamma": gamma, "alpha": alpha, "reduction": "sum"}
    logits, target, weight = batch
    whole = L.focal_loss(*batch, **options)
    parts = [
        L.focal_loss(logits[i : i + 1], target[i : i + 1], weight[i : i + 1], **options)
        for i in range(len(target))
    ]
    torch.testing.assert_close(whole, torch.stack(parts).sum())
    torch.testing.assert_close(gradient(whole, logits), gradient(torch.stack(parts), logits))


@quick
@given(batches(), gamma)
def test_mirrored_logits_swap_positives_and_negatives(batch, gamma):
    logits = batch[0][:, :1].detach()
    as_positive, as_negative = torch.zeros(len(logits)).long(), torch.ones(len(logits)).long()
    torch.testing.assert_close(
        L.focal_loss(logits, as_positive, gamma=gamma, alpha=0.25, reduction="none"),
        L.focal_loss(-logits, as_negative, gamma=gamma, alpha=0.75, reduction="none"),
    )
