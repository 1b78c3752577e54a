// SPDX-License-Identifier: GPL-2.0-or-later
//
// HTTP for measurements of a millisecond: requests are bytes made beforehand, an answer is recognised by
// counting, and nothing is parsed while the clock runs. Node's own client costs as much as what is
// measured.

import net from 'node:net';
import { apiKey, apiUrl } from '../../e2e/lib/env.mjs';

const { hostname, port } = new URL(apiUrl);

function connect() {
	return new Promise((resolve, reject) => {
		const socket = net.connect(Number(port || 80), hostname, () => resolve(socket));

		socket.setNoDelay(true);
		socket.on('error', reject);
	});
}

export function requestBytes(method, path, json) {
	const body = json === undefined ? '' : JSON.stringify(json);

	return Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: ${hostname}\r\nX-API-Key: ${apiKey}\r\n`
		+ (json === undefined ? '' : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`)
		+ `\r\n${body}`);
}

// A kept-alive connection for one kind of request at a time.
export class LeanConnection {
	static async open() {
		const c = new LeanConnection();

		c.socket = await connect();
		c.socket.on('data', (chunk) => c.take(chunk));
		c.socket.on('close', () => c.reject?.(new Error('the connection was closed')));
		return c;
	}

	take(chunk) {
		this.got = this.got.length ? Buffer.concat([this.got, chunk]) : chunk;

		const head = this.got.indexOf('\r\n\r\n');

		if (head < 0)
			return;

		const length = /\r\ncontent-length: (\d+)/i.exec(this.got.subarray(0, head + 2).toString('latin1'));

		if (this.got.length >= head + 4 + Number(length?.[1] ?? 0))
			this.resolve(this.got);
	}

	// Resolves with the whole answer, which must be 200 and have a length.
	async ask(bytes) {
		this.got = Buffer.alloc(0);

		const answer = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));

		this.socket.write(bytes);

		const text = await answer;

		if (!text.subarray(0, 12).equals(Buffer.from('HTTP/1.1 200')))
			throw new Error(text.toString());
		return text;
	}

	close() {
		this.reject = undefined;
		this.socket.destroy();
	}
}

// A stream whose chunks are handed over as they come, unparsed.
export async function leanStream(path, onChunk) {
	const socket = await connect();

	socket.write(requestBytes('GET', path));
	socket.on('data', onChunk);
	return socket;
}
