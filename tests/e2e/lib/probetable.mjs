// SPDX-License-Identifier: GPL-2.0-or-later
//
// nft/PROBES.md from the list of probes. `node lib/probetable.mjs` prints it; egress-probes.test.mjs compares.

import { pathToFileURL } from 'node:url';
import { acts, rows } from './probes.mjs';

const cell = (text) => String(text).replaceAll('|', '\\|').replaceAll('\n', ' ');
const farEnd = (far) => (far === undefined ? 'nothing' : far instanceof RegExp ? 'the question' : far.startsWith('dns:') ? 'the question' : `${far}`);

export function table() {
	const out = [
		'<!-- SPDX-License-Identifier: GPL-2.0-or-later -->',
		'<!-- made by: node tests/e2e/lib/probetable.mjs >nft/PROBES.md -->',
		'# Probes',
		'',
		`${rows.length + Object.keys(acts).length} ways out, tried from inside real microVMs by \`./quickstart test\` (\`tests/e2e/run egress\`). What counts is`,
		'what arrived: the far end is a namespace that answers for every address and notes every packet, and a probe holds only',
		'if it saw nothing but what the third column says, whatever the guest was told.',
		'',
		'The policy: `good.example.com`, `other.example.com`, `*.wild.example.com`, names that resolve to what nobody may reach, and',
		'the address 198.51.100.77. Test: `egress-probes`, each row a case of its own, all in one sandbox.',
		'',
		'| probe | the guest sees | the far end sees |',
		'|---|---|---|',
		...rows.map(([name, , v, far]) => `| ${cell(name)} | ${cell(v.says)} | ${cell(farEnd(far))} |`),
		'',
		'What takes more than one packet:',
		'',
		'| probe | what must come of it | test |',
		'|---|---|---|',
		...Object.entries(acts).map(([name, [file, what]]) => `| ${cell(name)} | ${cell(what)} | \`${file}\` |`),
		'',
	];

	return out.join('\n');
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href)
	process.stdout.write(table());
