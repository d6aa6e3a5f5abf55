#include "strand/error.h"

#include "base/err.h"

const char *strand_error_name(int code)
{
	return err_name(code);
}
