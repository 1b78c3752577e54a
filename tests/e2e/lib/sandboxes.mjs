// SPDX-License-Identifier: GPL-2.0-or-later
//
// Prints the ids of all living sandboxes, one a line, sorted: `run` compares before and after.

import { listIds } from './api.mjs';

console.log((await listIds()).join('\n'));
process.exit(0);
