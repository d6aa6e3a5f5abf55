/* Error codes of libstrand.
 *
 * A function returns 0 (or a count) on success and one of these negative codes on
 * failure; its `ret_` parameters are then untouched unless its text says otherwise.
 * The text for people is in the object that failed: strand_client_error,
 * strand_listener_error, strand_row_error.  Codes are stable: new ones may come, old
 * ones keep their numbers.
 */
#ifndef STRAND_ERROR_H
#define STRAND_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

enum strand_error {
	STRAND_OK = 0,
	STRAND_ENOMEM = -1,	/* out of memory */
	STRAND_EINVAL = -2,	/* bad input: configuration, argument, name */
	STRAND_ENOENT = -3,	/* the named thing does not exist */
	STRAND_EFULL = -4,	/* a bound is reached */
	STRAND_ECONN = -5,	/* connection lost, refused or not to be had */
	STRAND_ETIMEOUT = -6,	/* the deadline passed */
	STRAND_ESTOPPED = -7,	/* told to stop while waiting */
	STRAND_ESQL = -8,	/* a statement failed; the SQLSTATE says why */
	STRAND_ESYS = -9,	/* a system call failed; the text holds strerror */
	STRAND_EPROTO = -10,	/* the peer answered what it must not */
	STRAND_EDOUBT = -12	/* a COMMIT was sent, and whether it took effect is not known */
};

/* The code's name, "STRAND_ENOMEM"; static storage.  Any thread. */
const char *strand_error_name(int code);

#ifdef __cplusplus
}
#endif

#endif
