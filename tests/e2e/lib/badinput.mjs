// SPDX-License-Identifier: GPL-2.0-or-later
//
// Bodies and paths that must be refused, as tables: [what it is, input, status, code, sentence].
// Sizes are a little above what the appliance documents as its limits, not absurd.

const text = (n) => 'x'.repeat(n);
const many = (n, value = 'v') => Object.fromEntries(Array.from({ length: n }, (_, i) => [`K${i}`, value]));
const deep = (n) => '{"metadata":'.repeat(n) + '1' + '}'.repeat(n);

const json = 'invalid_json';
const field = 'invalid_field';

// Raw bodies for POST /sandboxes that are no JSON object.
export const malformed = [
	['half an object', '{"template":"base"', 400, json],
	['no JSON at all', 'template=base', 400, json],
	['two objects', '{}{}', 400, json],
	['a trailing comma', '{"template":"base",}', 400, json],
	['single quotes', "{'template':'base'}", 400, json],
	['a comment', '{/* */}', 400, json],
	['NaN', '{"timeout":NaN}', 400, json],
	['invalid UTF-8', Buffer.from([...Buffer.from('{"template":"'), 0xff, 0xfe, 0x22, 0x7d]), 400, json],
	['a byte-order mark in UTF-16', Buffer.from('\ufeff{}', 'utf16le'), 400, json],
	['a NUL behind the object', Buffer.from('{}\0'), 400, json],
	['nesting without end', deep(5000), 400, json],
	['an array', '[]', 400, json],
	['a string', '"base"', 400, json],
	['null', 'null', 400, json],
];

// JSON bodies for POST /sandboxes whose fields are wrong.
export const wrongCreate = [
	['template of a wrong type', { template: 5 }, 400, field, /template/],
	['template as null-like object', { template: {} }, 400, field, /template/],
	['an unknown template', { template: 'no-such-template' }, 404, 'template_not_found', /no-such-template/],
	['a template that is a path', { template: '../base' }, 404, 'template_not_found'],
	['an empty template name', { template: '' }, /^4/, null],
	['a template name with a NUL', { template: 'base\0' }, /^4/, null],
	['a very long template name', { template: text(100_000) }, /^4/, null],
	['timeout as text', { timeout: '300' }, 400, field, /timeout/],
	['a negative timeout', { timeout: -1 }, 400, field, /timeout/],
	['a timeout beyond all limits', { timeout: 1e15 }, 400, field, /timeout/],
	['a timeout of true', { timeout: true }, 400, field, /timeout/],
	['envs as array', { envs: ['A=b'] }, 400, field, /envs/],
	['envs with a number', { envs: { A: 1 } }, 400, field, /envs/],
	['envs with null', { envs: { A: null } }, 400, field, /envs/],
	['an empty variable name', { envs: { '': 'x' } }, 400, field, /envs/],
	['a variable name with =', { envs: { 'A=B': 'x' } }, 400, field, /envs/],
	['a variable name with a NUL', { envs: { 'A\0': 'x' } }, 400, json],
	['a value with a NUL', { envs: { A: 'x\0y' } }, 400, field, /envs/],
	['a value of 200 KB', { envs: { A: text(200_000) } }, /^4(00|13)$/, null, /envs/],
	['10,000 variables', { envs: many(10_000) }, /^4(00|13)$/, null, /envs/],
	['metadata as text', { metadata: 'a=b' }, 400, field, /metadata/],
	['metadata with a number', { metadata: { a: 1 } }, 400, field, /metadata/],
	['metadata of 200 KB', { metadata: { a: text(200_000) } }, /^4(00|13)$/, null, /metadata/],
	['10,000 labels', { metadata: many(10_000) }, /^4(00|13)$/, null, /metadata/],
	['secure as text', { secure: 'yes' }, 400, field, /secure/],
	['network as text', { network: 'open' }, 400, field, /network/],
	['allow_out as text', { network: { allow_out: '1.1.1.1' } }, 400, field, /allow_out/],
	['allow_out with a number', { network: { allow_out: [1] } }, 400, field, /allow_out/],
	['deny_out with an object', { network: { deny_out: [{}] } }, 400, field, /deny_out/],
	['security as text', { security: 'high' }, 400, field, /security/],
	['policy_json that is no JSON', { security: { policy_json: '{' } }, 400, null, /policy_json/],
	['policy_json that is no object', { security: { policy_json: '[]' } }, 400, null, /policy_json|security/],
	['policy_json of a wrong type', { security: { policy_json: 5 } }, 400, null, /policy_json/],
	['lifecycle as text', { lifecycle: 'pause' }, 400, field, /lifecycle/],
	['an unknown on_timeout', { lifecycle: { on_timeout: 'explode' } }, 400, field, /on_timeout/],
	['resources', { resources: { vcpus: 1 } }, 400, null,
		'resources field is not supported; set resources at template level'],
];

// JSON bodies for POST /sandboxes/{id}/commands.
export const wrongCommand = [
	['no cmd', {}, 400, null, /cmd/],
	['cmd of a wrong type', { cmd: ['ls'] }, 400, field, /cmd/],
	['an empty cmd', { cmd: '' }, 400, null, /cmd/],
	['a NUL in cmd', { cmd: 'echo a\0b' }, 400, field, /cmd/],
	['a cmd of 200 KB', { cmd: `: ${text(200_000)}` }, /^4(00|13)$/, null, /cmd/],
	['background as text', { cmd: 'true', background: 'yes' }, 400, field, /background/],
	['timeout as text', { cmd: 'true', timeout: '5' }, 400, field, /timeout/],
	['a negative timeout', { cmd: 'true', timeout: -5 }, 400, field, /timeout/],
	['user of a wrong type', { cmd: 'true', user: 0 }, 400, field, /user/],
	['user with a NUL', { cmd: 'true', user: 'ro\0ot' }, 400, field, /user/],
	['an unknown user', { cmd: 'true', user: 'no-such-user' }, 400, null, /user/],
	['cwd of a wrong type', { cmd: 'true', cwd: 1 }, 400, field, /cwd/],
	['a relative cwd', { cmd: 'true', cwd: 'tmp' }, 400, field, /cwd/],
	['cwd with a NUL', { cmd: 'true', cwd: '/tmp\0' }, 400, field, /cwd/],
	['envs as text', { cmd: 'true', envs: 'A=b' }, 400, field, /envs/],
	['envs with a number', { cmd: 'true', envs: { A: 1 } }, 400, field, /envs/],
	['envs of 200 KB', { cmd: 'true', envs: { A: text(200_000) } }, /^4(00|13)$/, null, /envs/],
];

// JSON bodies for POST /sandboxes/{id}/files.
export const wrongFile = [
	['no path', { data: 'x' }, 400, null, /path/],
	['no data', { path: '/tmp/bad' }, 400, null, /data/],
	['path of a wrong type', { path: 1, data: 'x' }, 400, field, /path/],
	['data of a wrong type', { path: '/tmp/bad', data: 1 }, 400, field, /data/],
	['an empty path', { path: '', data: 'x' }, 400, null, /path/],
	['a relative path', { path: 'tmp/bad', data: 'x' }, 400, null, /path/],
	['a NUL in the path', { path: '/tmp/b\0ad', data: 'x' }, 400, null, /path/],
	['a path of 5000 bytes', { path: `/tmp/${'d/'.repeat(2500)}`, data: 'x' }, 400, null],
	['a component of 300 bytes', { path: `/tmp/${text(300)}`, data: 'x' }, 400, null],
	['the root directory', { path: '/', data: 'x' }, 400, null],
	['an unknown user', { path: '/tmp/bad', data: 'x', username: 'no-such-user' }, 400, null, /user/],
	['username of a wrong type', { path: '/tmp/bad', data: 'x', username: 1 }, 400, field, /username/],
];

// Queries for GET /sandboxes/{id}/files and its raw twin ...
export const wrongQuery = [
	['no path', '', 400, null, /path/],
	['an empty path', '?path=', 400, null, /path/],
	['a relative path', '?path=tmp', 400, null, /path/],
	['a NUL in the path', '?path=/tmp/%00bad', 400, null, /path/],
];

// ... and for PUT /sandboxes/{id}/files/raw, where the user will own the file.
export const wrongOwner = [
	['an unknown user', '?path=/tmp/bad&username=no-such-user', 400, null, /user/],
];

// Ids in the path, as sent. None of them is a sandbox; none may reach anything else.
export const wrongIds = [
	'sbx-', 'sbx-UPPER12345', 'sbx-0000000000x', 'abc', '%00', 'sbx-000000000%00', '..', '%2e%2e', '..%2f..%2fetc',
	'sbx-..%2f..%2fx', '%2e%2e%2f%2e%2e%2fetc%2fpasswd', "'%20OR%201=1", 'sbx-%F0%9F%8E%89', '%ff%fe',
	'*', 'tpl-base', 'sbx-0000000000%0d%0aX-Injected:%201', text(3000),
];
