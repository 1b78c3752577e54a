// SPDX-License-Identifier: GPL-2.0-or-later
//
// Apart from all else: what runs where the SDK is not wants it too.

// Polls a condition that has no event to wait for.
export async function until(what, fn, ms = 10_000, step = 50) {
	const end = Date.now() + ms;

	for (;;) {
		const value = await fn();

		if (value)
			return value;
		if (Date.now() >= end)
			throw new Error(`waited ${ms} ms in vain: ${typeof what === 'function' ? what() : what}`);
		await new Promise((r) => setTimeout(r, step));
	}
}
