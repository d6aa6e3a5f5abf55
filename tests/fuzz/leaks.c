/* What LeakSanitizer is not to report: libconfig 1.5 leaks what it has of a string
 * where a syntax error ends it. */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so\n";
}
