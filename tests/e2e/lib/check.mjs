// SPDX-License-Identifier: GPL-2.0-or-later
//
// Assertions that every file needs: the error object, timestamps, the sandbox object.

import assert from 'node:assert/strict';

// Errors are {"message": sentence, "code": word}, typed JSON, and never leak how the daemon is made.
export function assertError(res, status, code, message) {
	const shown = `${res.status} ${res.text.slice(0, 300)}`;

	assert.equal(res.status, status, shown);
	assert.match(res.headers['content-type'] ?? '', /^application\/json\b/, shown);
	assert.equal(typeof res.json?.message, 'string', shown);
	assert.match(res.json.code, /^[a-z][a-z0-9_]*$/, shown);
	assert.match(res.json.message, /\S.*\S/, shown);
	assert.doesNotMatch(res.json.message, /\.[ch]:\d|errno|\bnull\b|0x[0-9a-f]{6}/, shown);
	if (code instanceof RegExp)
		assert.match(res.json.code, code, shown);
	else if (code)
		assert.equal(res.json.code, code, shown);
	if (message instanceof RegExp)
		assert.match(res.json.message, message, shown);
	else if (message)
		assert.equal(res.json.message, message, shown);
}

export function assertOk(res, status = 200) {
	assert.equal(res.status, status, `${res.status} ${res.text.slice(0, 300)}`);
	assert.match(res.headers['content-type'] ?? '', /^application\/json\b/);
	assert.ok(res.json !== undefined && res.json !== null, `a body that is JSON: ${res.text}`);
	return res.json;
}

// Constant width, six digits of fraction and a zone: what all clients' parsers have in common.
export function assertTimestamp(text) {
	assert.match(text, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|\+00:00)$/);
	assert.ok(!Number.isNaN(Date.parse(text)), text);
	return Date.parse(text);
}

export const idForm = /^sbx-[a-z0-9]{10}$/;

export function assertSandbox(object, want = {}) {
	assert.match(object.sandbox_id, idForm);
	assert.match(object.template_id, /^tpl-[a-z0-9][a-z0-9._-]*$/);
	assert.equal(typeof object.name, 'string');
	assert.match(object.state, /^(creating|running|paused|killed)$/);
	for (const map of ['metadata', 'envs'])
		assert.equal(Object.prototype.toString.call(object[map]), '[object Object]', map);
	for (const key of ['network', 'security', 'lifecycle'])
		assert.ok(key in object && typeof object[key] === 'object', key);
	assert.ok(Number.isInteger(object.timeout), 'timeout');
	assertTimestamp(object.started_at);
	if (object.end_at !== null)
		assertTimestamp(object.end_at);
	assert.match(object.envd_access_token, /^envd-tok-\S{16,}$/);
	assert.match(object.traffic_access_token, /^traffic-\S{16,}$/);
	assert.match(object.sandbox_domain, /\S/);
	for (const [key, value] of Object.entries(want))
		assert.deepEqual(object[key], value, key);
	return object;
}
