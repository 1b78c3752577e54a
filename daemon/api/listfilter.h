/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which labels a listed sandbox must have. */
#ifndef DECLAW_LISTFILTER_H
#define DECLAW_LISTFILTER_H

#include "util/json.h"

/* {str: str}, the caller's; NULL: no filter, which everything matches. */
json_object *listfilter_parse(const char *text);
bool listfilter_matches(json_object *filter, json_object *metadata);

#endif
