// SPDX-License-Identifier: GPL-2.0-or-later
//
// The few statistics a table needs. Quantiles interpolate between neighbours; medians are reported
// rather than means because one scheduling hiccup on a small machine moves a mean.

export function quantile(values, q) {
	const sorted = [...values].sort((a, b) => a - b);
	const at = (sorted.length - 1) * q;
	const low = Math.floor(at);

	return sorted[low] + (sorted[Math.ceil(at)] - sorted[low]) * (at - low);
}

export const median = (values) => quantile(values, 0.5);
export const sum = (values) => values.reduce((a, b) => a + b, 0);
export const mean = (values) => sum(values) / values.length;
