// SPDX-License-Identifier: GPL-2.0-or-later
//
// Sandboxes that cannot be forgotten. A test either borrows one for a function (withSandbox) or one
// for its file (shareSandbox); both wait for the kill to end, so that two cores never carry more
// guests than the file at hand asked for.

import { after, before } from 'node:test';
import './env.mjs';
import { del } from './api.mjs';

export { Sandbox } from '@declaw/sdk';
export { until } from './until.mjs';
import { Sandbox } from '@declaw/sdk';

// A failed test may leave a connection open, which would keep its process alive for ever. The timer does
// not: it only ends a process that has nothing else left to do than to wait.
after(() => {
	setTimeout(() => process.exit(), 20_000).unref();
});

export const BOOT_MS = 60_000;	// generous: a cold boot without hardware virtualisation takes seconds

export async function withSandbox(opts, fn) {
	const sbx = await Sandbox.create(opts);

	try {
		return await fn(sbx);
	} finally {
		await sbx.kill({ wait: true });
	}
}

// Returns a getter: the sandbox exists only once the file's tests run. ready() is called when it does
// (hooks of one file are not ordered among each other).
export function shareSandbox(opts = {}, ready = async () => {}) {
	let sbx;

	before(async () => {
		sbx = await Sandbox.create(opts);
		await ready(sbx);
	}, { timeout: BOOT_MS });
	after(async () => {
		await sbx?.kill({ wait: true });
	}, { timeout: BOOT_MS });
	return () => sbx;
}

// For sandboxes made by hand: kills all of them, whatever happens to one.
export async function killAll(ids) {
	await Promise.allSettled(ids.map((id) => del(`/sandboxes/${id}`)));
}

// Foreground command through the SDK that must succeed; returns stdout.
export async function sh(sbx, cmd, opts) {
	const r = await sbx.commands.run(cmd, opts);

	if (r.exitCode !== 0)
		throw new Error(`\`${cmd}\` ended with ${r.exitCode}: ${r.stderr || r.stdout}`);
	return r.stdout;
}
