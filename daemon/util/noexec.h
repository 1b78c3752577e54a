/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process that never executes another program, for those that read what guests and the network write.
 *
 * systemd's SystemCallFilter= cannot say so: the service itself is started by execve(), after the filter is in place, so
 * systemd always lets it by. The process adds a filter of its own when it has started.
 */
#ifndef DECLAW_NOEXEC_H
#define DECLAW_NOEXEC_H

/*
 * From now on the kernel kills this process, and every one it forks, when it tries to execute something: nothing in the
 * program does, so who tries has taken it over. Cannot be undone. Under systemd, SystemCallFilter= has to allow seccomp.
 *
 * Call it while there is one thread; others that exist go on without. Returns 0 or a negative errno, and then nothing has
 * changed but, where that was needed, that privileges cannot be gained any more (PR_SET_NO_NEW_PRIVS).
 */
int noexec(void);

#endif
