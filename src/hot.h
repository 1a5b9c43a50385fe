/*
 * hot.h: where the variables lie that a worker writes, or the master between
 * two forks.  Each page that is written so is one more in every worker; so
 * they are kept together.
 */
#ifndef HOT_H
#define HOT_H

#define HOT	__attribute__((__section__("hot")))

#endif
