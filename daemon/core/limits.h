/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every numeric limit on what comes from outside, with the reason for its size. */
#ifndef DECLAW_LIMITS_H
#define DECLAW_LIMITS_H

#define LIMIT_JSON_BODY		(10u << 20)	/* contract 1.5: JSON bodies over 10 MiB are 413 */
#define LIMIT_ENVS		256u		/* variables per sandbox or command */
#define LIMIT_ENV_NAME		256u
#define LIMIT_ENV_BYTES		(96u << 10)	/* all names and values: below the kernel's single-string limit */
#define LIMIT_METADATA		128u		/* pairs */
#define LIMIT_METADATA_BYTES	(32u << 10)	/* it is kept for as long as the sandbox can be read */
#define LIMIT_POLICY_BYTES	(64u << 10)	/* also goes into each process's environment */
#define LIMIT_NETWORK_ENTRIES	1024u
#define LIMIT_NETWORK_ENTRY	260u		/* a DNS name is at most 253 characters */
#define LIMIT_NETWORK_BYTES	(576u << 10)	/* two full lists; what else is in it is kept and echoed too */
#define LIMIT_LIFECYCLE_BYTES	(8u << 10)
#define LIMIT_CMD_BYTES		(96u << 10)	/* one argv string; the kernel allows 128 KiB */
#define LIMIT_PATH		4095u		/* PATH_MAX without the NUL */
#define LIMIT_USER		64u
#define LIMIT_TIMEOUT_SEC	(30u * 86400u)	/* of sandboxes and commands; tiers lower it */
#define LIMIT_KILL_MANY		1000u
#define LIMIT_LIST_PAGE		1000u
#define LIST_PAGE_DEFAULT	100u		/* contract 2.1: default page >= 100 */
#define LIMIT_BATCH_FILES	4096u
#define LIMIT_STDIN_WRITE	(1u << 20)	/* queued towards one process before 429 */

#define STREAM_WINDOW		(256u << 10)	/* credit for process output: hides the round trip under TCG */
#define FILE_WINDOW		(1u << 20)	/* credit for files: bulk transfer */
#define SPOOL_MEMORY		(64u << 10)	/* output kept in memory before it goes to a file */
#define READER_LAG		(1u << 20)	/* a reader this far behind stops its process */

#endif
