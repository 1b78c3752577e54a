// SPDX-License-Identifier: GPL-2.0-or-later
//
// Much of the same: ten thousand commands, hundreds of files and sessions, and kills in every phase of
// a create. Nothing may grow and nothing may stay.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { del, get, listIds, post } from './lib/api.mjs';
import { assertOk } from './lib/check.mjs';
import { agentHolds, daemonHolds } from './lib/growth.mjs';
import { hostOut, marksOf, virshList } from './lib/host.mjs';
import { killAll, shareSandbox, sh, until } from './lib/sandbox.mjs';
import { allEvents } from './lib/sse.mjs';

const sbx = shareSandbox({ timeout: 7200 });
const path = (rest) => `/sandboxes/${sbx().sandboxId}${rest}`;
const minutes = (n) => n * 60_000;

async function repeat(n, width, fn) {
	let next = 0;

	await Promise.all(Array.from({ length: width }, async () => {
		while (next < n)
			await fn(next++);
	}));
}

// Allocators keep what they freed: a fixed margin, far below what one leak a round would cost.
function assertSteady(before, after, rounds) {
	for (const key of Object.keys(before)) {
		const margin = key === 'rssKib' ? Math.max(2048, rounds / 10) : key === 'pid' ? 0 : 4;

		assert.ok(Math.abs(after[key] - before[key]) <= margin,
			`${key}: ${before[key]} before, ${after[key]} after ${rounds} rounds`);
	}
}

async function steady(rounds, width, fn) {
	await repeat(Math.min(500, rounds), width, fn);

	const before = [await daemonHolds(), await agentHolds(sbx())];

	await repeat(rounds, width, fn);

	const after = [await daemonHolds(), await agentHolds(sbx())];

	assertSteady(before[0], after[0], rounds);
	assertSteady(before[1], after[1], rounds);
}

test('10,000 short commands', { timeout: minutes(40) }, () =>
	steady(10_000, 4, async (i) => {
		const res = await post(path('/commands'), { cmd: `echo ${i}` });

		assert.equal(res.json.stdout, `${i}\n`);
	}));

test('500 background commands, waited for or killed', { timeout: minutes(15) }, () =>
	steady(500, 4, async (i) => {
		const { pid } = assertOk(await post(path('/commands'), { cmd: i % 2 ? 'sleep 99' : 'true', background: true }));

		if (i % 2)
			assert.equal(assertOk(await del(path(`/commands/${pid}`))).killed, true);
		else
			assert.equal(assertOk(await get(path(`/commands/${pid}/wait`))).exit_code, 0);
	}).catch((e) => {
		// Ended processes stay readable by design, so files may grow up to the cap of what is kept.
		if (!/^files: /.test(e.message))
			throw e;
	}));

test('500 stdio sessions with their streams', { timeout: minutes(15) }, async () => {
	const before = await agentHolds(sbx());

	await repeat(500, 4, async (i) => {
		const { cmd_id: id } = assertOk(await post(path('/stdio'), { cmd: 'cat' }));

		await post(path(`/stdio/${id}/stdin`), { data: Buffer.from(`${i}`).toString('base64') });
		await post(path(`/stdio/${id}/stdin/close`), undefined);
		assert.equal((await allEvents('GET', path(`/stdio/${id}/stream`))).at(-1).data.exit_code, 0);
	});
	assertSteady(before, await agentHolds(sbx()), 500);
});

test('1,000 files written, read and removed', { timeout: minutes(15) }, () =>
	steady(1000, 4, async (i) => {
		const file = `/tmp/churn/${i}`;

		await sbx().files.write(file, `content ${i}`);
		assert.equal(await sbx().files.read(file), `content ${i}`);
		await sbx().files.remove(file);
	}));

test('kill in every phase of a create', { timeout: minutes(20) }, async () => {
	await until('earlier ones are gone', async () => (await virshList()).filter((name) => name.startsWith('sbx-')).length ===
		(await listIds()).length, 10_000, 100);

	const before = { domains: (await virshList()).sort(), ids: await listIds() };

	for (const delay of [0, 20, 50, 100, 150, 200, 300, 400, 600, 800, 1200, 1800, 2500, 3500, 5000]) {
		const seen = new Set(await listIds());
		const made = post('/sandboxes', {}, { agent: false }).catch(() => null);

		await new Promise((r) => setTimeout(r, delay));

		const mine = (await listIds()).filter((id) => !seen.has(id));

		await killAll(mine);

		const res = await made;
		const id = res?.json?.sandbox_id ?? mine[0];

		assert.ok([201, 409, 410].includes(res?.status), `after ${delay} ms: ${res?.status} ${res?.text}`);
		if (!id)
			continue;
		await del(`/sandboxes/${id}`);
		await until(`nothing of ${id} is left (killed after ${delay} ms)`, async () => {
			const marks = await marksOf(id);

			return Object.values(marks).every((m) => m === false || m.length === 0);
		}, 30_000, 500);
	}
	assert.deepEqual({ domains: (await virshList()).sort(), ids: await listIds() }, before);
});

test('the daemon is killed in every phase of a create', { timeout: minutes(20) }, async () => {
	const kept = sbx().sandboxId;

	for (const delay of [0, 100, 200, 400, 800, 1500, 2500]) {
		const made = post('/sandboxes', {}, { agent: false }).catch(() => null);

		await new Promise((r) => setTimeout(r, delay));
		await hostOut('systemctl', 'kill', '-s', 'KILL', '--kill-who=main', 'declawd.service');
		await made;
		await until('the daemon answers again', () => get('/healthz').then((r) => r.status === 200, () => false), 60_000, 200);
		await until('the old sandbox is back', () =>
			get(path('')).then((r) => r.json?.state === 'running', () => false), 60_000, 200);
		// Whoever asked for the other one has been told nothing: it must not run on unseen.
		await killAll((await listIds()).filter((id) => id !== kept));
		await until(`only the old domain is left (killed after ${delay} ms)`, async () =>
			(await virshList()).filter((name) => name.startsWith('sbx-')).join() === kept, 60_000, 500);
		assert.equal(await sh(sbx(), 'echo alive'), 'alive\n');
	}

	const links = (await hostOut('ip', '-o', 'link')).split('\n').filter((l) => / dcl/.test(l));
	const dirs = (await hostOut('ls', '/var/lib/declaw/sandboxes')).trim().split('\n');

	assert.equal(links.length, 1, 'one tap');
	assert.deepEqual(dirs, [kept], 'one directory');
});
