// SPDX-License-Identifier: GPL-2.0-or-later
//
// Where the appliance is and how to speak to it, from the environment alone:
//   DECLAW_API_URL     base URL (default http://localhost:8080)
//   DECLAW_DOMAIN      host:port for the SDK (default: taken from DECLAW_API_URL)
//   DECLAW_API_KEY     a valid key (required)
//   DECLAW_HOST_EXEC   command prefix that runs a command where declawd runs; empty = this machine
//   DECLAW_TEST_BUILD  the build whose unit tests may be run there (none: those are left out)
//   DECLAW_LIBVIRT_URI the sandboxes' libvirt, as seen from there
// The SDK reads the process environment when it connects, so importing this file first is all a test needs.

export const apiUrl = (process.env.DECLAW_API_URL || 'http://localhost:8080').replace(/\/+$/, '');
export const apiKey = process.env.DECLAW_API_KEY || '';
export const hostExec = (process.env.DECLAW_HOST_EXEC || '').split(/\s+/).filter(Boolean);
export const libvirtUri = process.env.DECLAW_LIBVIRT_URI
	|| 'qemu:///session?socket=/run/declaw/libvirt/libvirt/libvirt-sock';

const url = new URL(apiUrl);
const port = url.port || (url.protocol === 'https:' ? '443' : '80');
process.env.DECLAW_DOMAIN ||= `${url.hostname}:${port}`;

// The SDK hands undici's Agent to the global fetch, which refuses it where the two differ too much
// in age (Node 18). The switch is the SDK's own; with it fetch uses its built-in connection pool.
if (Number(process.versions.node.split('.')[0]) < 20)
	process.env.DECLAW_SDK_DISABLE_DISPATCHER ||= '1';

if (!apiKey)
	throw new Error('DECLAW_API_KEY is not set: tests/e2e needs a running appliance and a key');
