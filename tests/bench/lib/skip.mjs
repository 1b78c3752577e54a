// SPDX-License-Identifier: GPL-2.0-or-later
//
// Thrown by a benchmark that cannot be carried out here, through no fault of the product: the message
// says what is missing.

export class Skip extends Error {}
