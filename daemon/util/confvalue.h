/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text to typed value, for conf.c. */
#ifndef DECLAW_CONFVALUE_H
#define DECLAW_CONFVALUE_H

#include "util/conf.h"

/* Replaces the key's value in target. On -EINVAL *ret_why is a malloc'ed reason. */
int conf_value_store(const struct conf_key *k, const char *text, void *target, char **ret_why);
/* Frees what the key owns and leaves NULL. */
void conf_value_done(const struct conf_key *k, void *target);

#endif
