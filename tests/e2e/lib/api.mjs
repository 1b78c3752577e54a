// SPDX-License-Identifier: GPL-2.0-or-later
//
// HTTP without opinions: no retries, no normalised URLs, no parsed bodies behind the test's back. The
// SDK hides exactly what half of these tests look at (status, headers, malformed input), so they talk
// to the socket through node:http, over one keep-alive agent.

import http from 'node:http';
import { apiKey, apiUrl } from './env.mjs';

const agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
const base = new URL(apiUrl);

function headersOf(opts) {
	const headers = {};

	if (opts.auth === undefined)
		headers.Authorization = `Bearer ${apiKey}`;
	else if (opts.auth)
		Object.assign(headers, opts.auth);
	if (opts.json !== undefined)
		headers['Content-Type'] = 'application/json';
	return Object.assign(headers, opts.headers);
}

// open(method, path, opts) -> the response stream, headers read, body not.
//   opts.json    value to send as JSON          opts.body  string or Buffer to send as it is
//   opts.write   async (req) => {}: writes the body itself (chunked unless Content-Length is given)
//   opts.auth    header object instead of the Bearer key; null = none
//   opts.signal  AbortSignal                    opts.agent false = a connection of its own
// path goes out byte for byte.
export function open(method, path, opts = {}) {
	return new Promise((resolve, reject) => {
		const req = http.request({
			host: base.hostname, port: base.port || 80, method, path,
			headers: headersOf(opts), agent: opts.agent ?? agent, signal: opts.signal,
		});
		const body = opts.json !== undefined ? JSON.stringify(opts.json) : opts.body;

		req.on('response', (res) => resolve(Object.assign(res, { request: req })));
		req.on('error', reject);
		if (opts.write) {
			opts.write(req).then(() => req.end(), (e) => req.destroy(e));
		} else {
			if (body !== undefined)
				req.setHeader('Content-Length', Buffer.byteLength(body));
			req.end(body);
		}
	});
}

export async function readAll(res) {
	const chunks = [];

	for await (const chunk of res)
		chunks.push(chunk);
	return Buffer.concat(chunks);
}

// request() -> { status, headers, body: Buffer, text, json } ; json is undefined when it is none.
export async function request(method, path, opts = {}) {
	const res = await open(method, path, opts);
	const body = await readAll(res);
	const out = { status: res.statusCode, headers: res.headers, body, text: body.toString('utf8') };

	try {
		out.json = JSON.parse(out.text);
	} catch {
		// The caller's assertion on `json` says more than a parse error would.
	}
	return out;
}

export const get = (path, opts) => request('GET', path, opts);
export const post = (path, json, opts) => request('POST', path, { json, ...opts });
export const del = (path, opts) => request('DELETE', path, opts);
export const patch = (path, json, opts) => request('PATCH', path, { json, ...opts });

export const filePath = (id, path, extra = '') =>
	`/sandboxes/${id}/files?path=${encodeURIComponent(path)}${extra}`;
export const rawPath = (id, path, extra = '') =>
	`/sandboxes/${id}/files/raw?path=${encodeURIComponent(path)}${extra}`;

export async function listIds() {
	const res = await get('/sandboxes?limit=1000');

	return res.json.sandboxes.map((s) => s.sandbox_id).sort();
}
