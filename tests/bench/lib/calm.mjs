// SPDX-License-Identifier: GPL-2.0-or-later
//
// How much of the processors others took while something was measured: "steal" of /proc/stat, which a virtual machine has that
// shares its processors.
//
// Pairs are side by side in time, so what others take is much the same for both sides of one. It does not cost both the same:
// where three processes wait for each other, each processor that stands still stops all of them, and a path of one process goes on.
// The ratio of such a pair tells of the neighbours. So a side is measured again while it was disturbed; when it was each time, the pair is
// shown, and counts only when there are too few others.

import { readFileSync } from 'node:fs';
import { median, quantile } from './stats.mjs';

const CALM = 0.03;	// of all processors' time
const ENOUGH = 3;	// pairs
const patience = { tries: 5, rest: 1000 };	// ms

// Its call gives the share taken since.
function stealClock() {
	const now = () => {
		const ticks = /^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'utf8'))[1].split(' ').slice(0, 8).map(Number);

		return { all: ticks.reduce((a, b) => a + b, 0), stolen: ticks[7] };
	};
	const began = now();

	return () => {
		const ended = now();

		return (ended.stolen - began.stolen) / Math.max(1, ended.all - began.all);
	};
}

// Carries fn out until others have left it alone, some times at most. -> { value, calm: whether they have }
export async function calmly(fn, { tries, rest } = patience) {
	for (;;) {
		const stolen = stealClock();
		const value = await fn();
		const share = stolen();

		if (share <= CALM || --tries <= 0)
			return { value, calm: share <= CALM };
		await new Promise((r) => setTimeout(r, rest));
	}
}

// What counts of a list of { calm, ... }
export function counted(list) {
	const calm = list.filter((x) => x.calm);

	return calm.length >= ENOUGH ? calm : list;
}

// Pairs of what is compared: { ours, theirs, calm }
export class Pairs extends Array {
	// The two sides, one after the other, and each the first one every other time
	async measure(ours, theirs, how) {
		const sides = Object.entries({ ours, theirs });
		const pair = { calm: true };

		for (const [name, fn] of this.length % 2 ? sides.reverse() : sides) {
			const { value, calm } = await calmly(fn, how);

			pair[name] = value;
			pair.calm &&= calm;
		}
		this.push(pair);
	}

	get calm() {
		return [...this].filter((p) => p.calm).length;
	}

	get counted() {
		return counted([...this]);
	}

	ratio() {
		return median(this.counted.map((p) => p.ours / p.theirs));
	}

	// How far the ratio may be from what many more pairs would give: the standard error of a median, from the quartiles
	error() {
		const v = this.counted.map((p) => p.ours / p.theirs);

		return 1.25 * (quantile(v, 0.75) - quantile(v, 0.25)) / 1.35 / Math.sqrt(v.length);
	}

	of(side) {
		return this.counted.map((p) => p[side]);
	}

	// "0.97 (0.61) 0.98": the one in brackets was disturbed
	toString() {
		return [...this].map((p) => ((x) => (p.calm ? x : `(${x})`))((p.ours / p.theirs).toFixed(2))).join(' ');
	}
}
