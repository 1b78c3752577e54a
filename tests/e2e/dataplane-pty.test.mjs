// SPDX-License-Identifier: GPL-2.0-or-later
//
// PTYs: a login shell on a real terminal, resized, watched by several readers, and always ended by an
// exit event.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { del, get, patch, post, request } from './lib/api.mjs';
import { assertError, assertOk } from './lib/check.mjs';
import { shareSandbox, until } from './lib/sandbox.mjs';
import { allEvents, collect, events, openStream } from './lib/sse.mjs';

const sbx = shareSandbox({ envs: { FROM_SESSION: 'yes' } });
const path = (rest = '') => `/sandboxes/${sbx().sandboxId}/pty${rest}`;

// A terminal whose whole output so far is in .text; waits for what it shows.
async function terminal(opts = {}) {
	const term = { text: '' };

	term.handle = await sbx().pty.create({
		...opts, onData: (d) => { term.text += Buffer.from(d).toString('utf8'); },
	});
	term.type = (text) => term.handle.sendInput(text);
	term.shows = (what) => until(() => `the terminal shows ${what}: ${JSON.stringify(term.text)}`,
		() => (what instanceof RegExp ? what.test(term.text) : term.text.includes(what)), 20_000);
	return term;
}

test('a login shell with prompt, echo, colours and size', { timeout: 60_000 }, async () => {
	const term = await terminal({ size: { cols: 97, rows: 31 } });

	await term.shows(/[$#] $/);
	await term.type('tty; stty size; echo TERM=$TERM; echo $0; echo S=$FROM_SESSION; id -un; pwd\n');
	await term.shows(/\/home\/user\r\n/);
	assert.match(term.text, /\/dev\/pts\/\d+\r\n31 97\r\nTERM=xterm-256color\r\n-?(\/bin\/)?bash\r\nS=yes\r\nuser\r\n/);
	await term.type('exit 5\n');
	assert.deepEqual(await term.handle.wait(), { exitCode: 5 });
});

test('resize reaches the program as SIGWINCH', { timeout: 60_000 }, async () => {
	const term = await terminal();

	await term.shows(/[$#] $/);
	await term.type("sh -c 'trap \"stty size; exit\" WINCH; echo go=$((1+1)); while :; do sleep 0.1; done'\n");
	await term.shows('go=2');
	await term.handle.resize({ cols: 133, rows: 44 });
	await term.shows('44 133\r\n');
	await term.handle.kill();
});

test('control characters: ^C interrupts, ^D ends', { timeout: 60_000 }, async () => {
	const term = await terminal();

	await term.shows(/[$#] $/);
	await term.type('sleep 300; echo code=$?\n');
	await term.shows('sleep 300; echo');
	await until('sleep runs', async () => (await sbx().commands.run('pgrep -x sleep')).stdout !== '');
	await term.type('\x03');
	await term.type('echo after\n');
	// readline turns bracketed paste off in front of it; and a ^D that comes before the prompt ends nobody's input
	await term.shows(/[\r\n]after\r\n[^]*[$#] $/);
	await term.type('\x04');
	assert.equal((await term.handle.wait()).exitCode, 0);
	assert.doesNotMatch(term.text, /code=\d/, 'the interrupted line did not go on');
});

test('the output before the first reader is kept', { timeout: 30_000 }, async () => {
	const { pid } = assertOk(await post(path(), { size: { cols: 80, rows: 24 }, user: 'user' }));

	await post(path(`/${pid}/stdin`), { data: 'echo early-$((6*7))\n' });
	await new Promise((r) => setTimeout(r, 1500));
	await post(path(`/${pid}/stdin`), { data: 'exit\n' });

	const list = await allEvents('GET', path(`/${pid}/stream`));

	assert.match(collect(list).data.toString(), /early-42\r\n/);
	assert.equal(list.at(-1).event, 'exit');
	assert.deepEqual(list.at(-1).data, { exit_code: 0 });
});

test('several readers; leaving does not kill; the end reaches all', { timeout: 60_000 }, async () => {
	const { pid } = assertOk(await post(path(), { size: { cols: 80, rows: 24 } }));
	const read = async (stopAt) => {
		let text = '';

		for await (const e of events(await openStream('GET', path(`/${pid}/stream`), { agent: false }))) {
			if (e.event === 'exit')
				return { text, exit: e.data.exit_code };
			text += Buffer.from(e.data.data, 'base64');
			if (stopAt && text.includes(stopAt))
				return { text };
		}
		return { text };
	};
	const readers = [read(), read('marker-1'), read()];

	await new Promise((r) => setTimeout(r, 500));
	await post(path(`/${pid}/stdin`), { data: 'echo marker-$((0+1))\n' });
	assert.match((await readers[1]).text, /marker-1/);
	await post(path(`/${pid}/stdin`), { data: 'echo marker-$((1+1)); exit 3\n' });
	for (const reader of [readers[0], readers[2]]) {
		const { text, exit } = await reader;

		assert.match(text, /marker-1\r\n[^]*marker-2\r\n/);
		assert.equal(exit, 3);
	}
});

test('kill: true once, the stream ends with exit', { timeout: 30_000 }, async () => {
	const { pid } = assertOk(await post(path(), { size: { cols: 80, rows: 24 } }));
	const reader = allEvents('GET', path(`/${pid}/stream`));

	await new Promise((r) => setTimeout(r, 300));
	assert.deepEqual((await sbx().commands.list()).map((p) => [p.pid, p.isPty]), [[pid, true]]);
	assert.equal(assertOk(await del(path(`/${pid}`))).killed, true);
	assert.equal((await reader).at(-1).event, 'exit');
	assert.equal(assertOk(await del(path(`/${pid}`))).killed, false);
	assert.equal((await allEvents('GET', path(`/${pid}/stream`))).at(-1).event, 'exit', 'also afterwards');
	assert.deepEqual(await sbx().commands.list(), []);
});

test('UTF-8 input, and a paste of 16 KiB', { timeout: 60_000 }, async () => {
	const term = await terminal();
	const paste = Array.from({ length: 512 }, (_, i) => String(i).padStart(31, '.')).join('\n');

	await term.shows(/[$#] $/);
	await term.type("cat > /tmp/paste << 'X'\n");
	for (let i = 0; i < paste.length; i += 1000)
		await term.type(paste.slice(i, i + 1000));
	await term.type('\nü🎉\nX\necho pasted=$?\n');
	await term.shows('pasted=0');
	assert.equal(await sbx().files.read('/tmp/paste'), `${paste}\nü🎉\n`);
	await term.handle.kill();
});

test('user, cwd and envs', { timeout: 30_000 }, async () => {
	const term = await terminal({ user: 'root', cwd: '/tmp', envs: { MINE: 'm1' } });

	await term.shows(/# $/);
	await term.type('echo $(id -un)-$PWD-$MINE\n');
	await term.shows('root-/tmp-m1\r\n');
	await term.handle.kill();
});

test('a TTL ends it', { timeout: 30_000 }, async () => {
	const { pid } = assertOk(await post(path(), { size: { cols: 80, rows: 24 }, timeout: 1 }));
	const list = await allEvents('GET', path(`/${pid}/stream`));

	assert.equal(list.at(-1).event, 'exit');
});

test('errors: unknown pids, sizes that are none', { timeout: 30_000 }, async () => {
	assertError(await get(path('/999999/stream')), 404);
	assertError(await post(path('/999999/stdin'), { data: 'x' }), 404);
	assertError(await patch(path('/999999'), { size: { cols: 80, rows: 24 } }), 404);
	assert.equal(assertOk(await del(path('/999999'))).killed, false);
	for (const size of [{ cols: 0, rows: 24 }, { cols: -1, rows: 24 }, { cols: 70_000, rows: 24 }, { cols: '80', rows: 24 }, 5])
		assertError(await post(path(), { size }), 400);
	assertError(await post(path(), { size: { cols: 80, rows: 24 }, user: 'no-such-user' }), 400);
	assertOk(await request('POST', path(), { json: {} }).then(async (res) => {
		await del(path(`/${res.json.pid}`));
		return res;
	}));
});
