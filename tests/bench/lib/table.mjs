// SPDX-License-Identifier: GPL-2.0-or-later
//
// A table for terminals and for a README: Markdown, columns padded, first column left, numbers right.

export function table(head, rows) {
	const all = [head, ...rows].map((r) => r.map(String));
	const widths = head.map((_, i) => Math.max(3, ...all.map((r) => (r[i] ?? '').length)));
	const line = (r) => `| ${widths.map((w, i) =>
		(i === 0 ? (r[i] ?? '').padEnd(w) : (r[i] ?? '').padStart(w))).join(' | ')} |`;
	const rule = `|${widths.map((w, i) => (i === 0 ? '-'.repeat(w + 2) : `${'-'.repeat(w + 1)}:`)).join('|')}|`;

	return [line(all[0]), rule, ...all.slice(1).map(line)].join('\n');
}
