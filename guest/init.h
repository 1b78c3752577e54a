/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent as PID 1 of a guest.
 */
#ifndef DCLW_INIT_H
#define DCLW_INIT_H

/* From the initramfs to a running root file system. Returns only when all of it worked. */
void init_system(void);
/* The end: processes, file systems, power. */
_Noreturn void init_poweroff(void);

#endif
