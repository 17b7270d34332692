// Measures on labelled probabilities, computed here so that a threshold can be dragged.

/** Precision, recall and false-positive rate when everything from a threshold on is caught. */
export function at(data, threshold) {
  const caught = data.positive.filter((p) => p >= threshold).length;
  const strays = data.negative.filter((p) => p >= threshold).length;
  return {
    threshold, caught, strays,
    precision: caught + strays ? caught / (caught + strays) : 1,
    recall: data.positive.length ? caught / data.positive.length : 0,
    fpr: data.negative.length ? strays / data.negative.length : 0,
  };
}

/** The curve over all thresholds that change something, thinned to at most 200 points. */
export function curve(data) {
  const all = [...data.positive.map((p) => [p, 1]), ...data.negative.map((p) => [p, 0])].sort((a, b) => b[0] - a[0]);
  const points = [];
  let caught = 0;
  all.forEach(([p, label], i) => {
    caught += label;
    if (i + 1 < all.length && all[i + 1][0] === p) return;
    points.push({ precision: caught / (i + 1), recall: caught / data.positive.length });
  });
  const step = Math.max(1, Math.ceil(points.length / 200));
  return points.filter((_, i) => i % step === 0 || i === points.length - 1);
}

/** Bins of equal width with their mean, rate and Wilson interval; and the error over all. */
export function calibration(data, count = 10) {
  const bins = Array.from({ length: count }, () => ({ count: 0, sum: 0, hits: 0 }));
  let brier = 0;
  for (const [list, label] of [[data.positive, 1], [data.negative, 0]]) {
    for (const p of list) {
      const bin = bins[Math.min(count - 1, Math.floor(p * count))];
      bin.count += 1; bin.sum += p; bin.hits += label;
      brier += (p - label) ** 2;
    }
  }
  const total = data.positive.length + data.negative.length;
  let ece = 0;
  const shown = bins.filter((bin) => bin.count).map((bin) => {
    const mean = bin.sum / bin.count, rate = bin.hits / bin.count;
    ece += (bin.count / total) * Math.abs(mean - rate);
    return { count: bin.count, mean, rate, ...wilson(bin.hits, bin.count) };
  });
  return { bins: shown, ece, brier: brier / total };
}

function wilson(hits, count) {
  const z = 1.96, rate = hits / count, scale = 1 + (z * z) / count;
  const middle = (rate + (z * z) / (2 * count)) / scale;
  const half = (z / scale) * Math.sqrt((rate * (1 - rate)) / count + (z * z) / (4 * count * count));
  return { low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}
