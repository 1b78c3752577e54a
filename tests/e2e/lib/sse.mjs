// SPDX-License-Identifier: GPL-2.0-or-later
//
// Server-sent events, read as strictly as the strictest client: LF only, `event: ` and one `data: `
// line each with exactly one space, JSON on one line, comments allowed in between. Every event carries
// the time it arrived, because half of the point of a stream is when.

import assert from 'node:assert/strict';
import { open, readAll } from './api.mjs';

export async function openStream(method, path, opts) {
	const res = await open(method, path, opts);

	if (res.statusCode !== 200) {
		const text = (await readAll(res)).toString();

		throw Object.assign(new Error(`${res.statusCode} ${text}`), { status: res.statusCode, text });
	}
	assert.match(res.headers['content-type'], /^text\/event-stream\b/);
	assert.match(res.headers['cache-control'] ?? '', /no-cache/);
	assert.equal(res.headers['content-length'], undefined);
	assert.equal(res.headers['content-encoding'], undefined);
	return res;
}

function parseFrame(frame) {
	const out = { at: performance.now() };

	for (const line of frame.split('\n')) {
		if (line.startsWith(':'))
			continue;
		const m = /^(event|data|id): (.*)$/.exec(line);

		assert.ok(m, `a line of the stream: ${JSON.stringify(line)}`);
		assert.ok(!(m[1] in out), `one ${m[1]} line in an event`);
		out[m[1]] = m[2];
	}
	if (out.data === undefined)
		return null;
	assert.doesNotMatch(out.data, /[\u0085\u2028\u2029]/, 'line separators are escaped');
	assert.ok(out.data.length < 1 << 20, 'a line stays below 1 MiB');
	out.data = JSON.parse(out.data);
	assert.match(frame.split('\n').filter((l) => !l.startsWith(':'))[0], /^event: /, 'event comes first');
	return out;
}

// Yields {event, data, at}; ends with the body.
export async function* events(res) {
	let text = '';

	res.setEncoding('utf8');
	for await (const chunk of res) {
		text += chunk;
		assert.ok(!text.includes('\r'), 'no CR on the wire');
		for (let end; (end = text.indexOf('\n\n')) >= 0;) {
			const event = parseFrame(text.slice(0, end));

			text = text.slice(end + 2);
			if (event)
				yield event;
		}
	}
	assert.equal(text, '', 'the stream ends at the end of an event');
}

export async function allEvents(method, path, opts) {
	const out = [];

	for await (const e of events(await openStream(method, path, opts)))
		out.push(e);
	return out;
}

// Collected bytes of base64 events, by event name, and the exit code.
export function collect(list) {
	const of = (name) => Buffer.concat(list.filter((e) => e.event === name)
		.map((e) => Buffer.from(e.data.data, 'base64')));

	return {
		stdout: of('stdout'), stderr: of('stderr'), data: of('data'),
		exitCode: list.find((e) => e.event === 'exit')?.data.exit_code,
	};
}
