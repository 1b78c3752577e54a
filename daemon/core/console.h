/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's serial console while it boots: the last few KiB, for the log when a start fails.
 *
 * QEMU serves the console as a UNIX socket and drops what nobody reads, so a guest that floods it later costs nothing:
 * the console is closed as soon as the agent answers.
 */
#ifndef DECLAW_CONSOLE_H
#define DECLAW_CONSOLE_H

#include <systemd/sd-event.h>

struct console;
int console_open(sd_event *event, const char *path, struct console **ret);
struct console *console_free(struct console *c);
/* Escaped text of the end of what was seen, malloc'ed, NULL when nothing was. */
char *console_tail(const struct console *c);

#endif
