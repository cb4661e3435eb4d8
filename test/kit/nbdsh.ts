/** What our scripts for libnbd's Python (nbdsh) begin with. */

/** `code(call)` in Python: the name of the error that a call ends with, or "ok". */
export const OUTCOME_IN_PYTHON = `
import errno, os, sys
import nbd

def code(call):
    try:
        call()
        return "ok"
    except nbd.Error as e:
        return errno.errorcode.get(e.errnum, str(e.errnum))
`;
