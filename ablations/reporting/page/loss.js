// The focal loss in the browser: the formulas of ablations/analysis/focal_loss.py and loss_cdf.py,
// held to them by tests/reporting/test_page_in_browser.py.
"use strict";

/** log(sigmoid(x)) without overflow or cancellation. */
function logSigmoid(x) {
  return Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));
}

/** FL = -(1 - p_t)^gamma log(p_t), of the true side's logit x_t. */
function focalLoss(x, gamma) {
  return -Math.exp(gamma * logSigmoid(-x)) * logSigmoid(x);
}

/** dFL/dx_t = (1 - p_t)^gamma (gamma p_t log p_t + p_t - 1). */
function focalLossDerivative(x, gamma) {
  const [logP, logQ] = [logSigmoid(x), logSigmoid(-x)];
  return Math.exp(gamma * logQ) * (gamma * Math.exp(logP) * logP - Math.exp(logQ));
}

/**
 * The CDF of FL over samples given by merged bins, easiest first.
 * sign: 1 for positives, -1 for negatives. Returns {fraction, share, mean}: arrays that rise from 0
 * to 1, and the mean loss of a sample.
 */
function lossCdf(bins, sign, gamma) {
  const [fraction, share] = [[0], [0]];
  let [count, held] = [0, 0];
  bins.logits.forEach((logit, i) => {
    count += bins.numbers[i];
    held += bins.numbers[i] * focalLoss(sign * logit, gamma);
    fraction.push(count);
    share.push(held);
  });
  return { fraction: fraction.map((n) => n / count), share: share.map((s) => s / held), mean: held / count };
}

/** Share of the loss that the hardest `part` of the samples hold. */
function hardest(cdf, part) {
  const at = 1 - part;
  const i = Math.max(1, cdf.fraction.findIndex((f) => f >= at));
  const [f0, f1, s0, s1] = [cdf.fraction[i - 1], cdf.fraction[i], cdf.share[i - 1], cdf.share[i]];
  return 1 - (s0 + ((s1 - s0) * (at - f0)) / (f1 - f0));
}
