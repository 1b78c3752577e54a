/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A monitor of our own into one QEMU, beside libvirt's. Blocking, for workers.
 *
 * Only for what counts in milliseconds: a command through libvirt takes one to three of them, here a tenth of one. What
 * changes what libvirt must know goes through libvirt; it hears of vCPUs that stop and start by QEMU's events.
 */
#ifndef DECLAW_QMP_H
#define DECLAW_QMP_H

/* The descriptor, or a negative errno. */
int qmp_open(const char *path);
/*
 * One command, an object on one line, with a descriptor unless it is negative. *ret (may be NULL) is the answer, without
 * blanks between its tokens, malloc'ed; it is QEMU's refusal with -EREMOTEIO.
 */
int qmp_command(int fd, const char *command, int passed, char **ret);

#endif
