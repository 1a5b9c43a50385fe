/*
 * hot.h: where the variables lie that a worker writes, or the master between
 * two forks.  Each page that is written so is one more in every worker; so
 * they are kept together.
 */
#ifndef HOT_H
#define HOT_H

/* A sanitizer does not guard what has a section of its own. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define HOT
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define HOT
#endif
#ifndef HOT
#define HOT	__attribute__((__section__("hot")))
#endif

#endif
