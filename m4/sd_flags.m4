# SD_CC_FLAGS(VARIABLE, FLAGS)
# Appends to VARIABLE each flag that the C compiler takes without a word.
# The probe includes a header, because _FORTIFY_SOURCE speaks up only there.
AC_DEFUN([SD_CC_FLAGS], [dnl
sd_save_CFLAGS=$CFLAGS
for sd_flag in $2; do
	AC_MSG_CHECKING([whether $CC accepts $sd_flag])
	CFLAGS="$sd_save_CFLAGS -Werror $[$1] $sd_flag"
	AC_COMPILE_IFELSE(
		[AC_LANG_PROGRAM([[#include <stdlib.h>]], [[return EXIT_SUCCESS;]])],
		[AC_MSG_RESULT([yes])
		$1="$[$1] $sd_flag"],
		[AC_MSG_RESULT([no])])
done
CFLAGS=$sd_save_CFLAGS
AC_SUBST([$1])])

# SD_LD_FLAGS(VARIABLE, FLAGS)
# The same for flags of the link step.  -fPIE is given so that -pie can link.
AC_DEFUN([SD_LD_FLAGS], [dnl
sd_save_CFLAGS=$CFLAGS
sd_save_LDFLAGS=$LDFLAGS
CFLAGS="$sd_save_CFLAGS -fPIE"
for sd_flag in $2; do
	AC_MSG_CHECKING([whether the linker accepts $sd_flag])
	LDFLAGS="$sd_save_LDFLAGS -Werror $[$1] $sd_flag"
	AC_LINK_IFELSE(
		[AC_LANG_PROGRAM([[#include <stdlib.h>]], [[return EXIT_SUCCESS;]])],
		[AC_MSG_RESULT([yes])
		$1="$[$1] $sd_flag"],
		[AC_MSG_RESULT([no])])
done
CFLAGS=$sd_save_CFLAGS
LDFLAGS=$sd_save_LDFLAGS
AC_SUBST([$1])])
