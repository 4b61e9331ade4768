#include "codec/record.h"

const char *flat_verdict_flags(enum flat_record_verdict verdict)
{
	static const char *const flags[FLAT_VERDICTS] = {
	    [FLAT_VERDICT_MALFORMED] = "DPE", [FLAT_VERDICT_NO_ROUTE] = "NR",
	    [FLAT_VERDICT_NO_HOST] = "UH",    [FLAT_VERDICT_CONNECT] = "UF",
	    [FLAT_VERDICT_RESET] = "UC",      [FLAT_VERDICT_PROTOCOL] = "UPE",
	    [FLAT_VERDICT_TIMEOUT] = "UT",    [FLAT_VERDICT_RETRIES] = "URX",
	    [FLAT_VERDICT_FAULT] = "FI",      [FLAT_VERDICT_DELAYED] = "DI",
	    [FLAT_VERDICT_GONE] = "DC",	      [FLAT_VERDICT_OVERFLOW] = "UO",
	    [FLAT_VERDICT_EXTERNAL] = "UAEX", [FLAT_VERDICT_LIMITED] = "RL",
	    [FLAT_VERDICT_RATED] = "RL",      [FLAT_VERDICT_LIMITER] = "RLSE",
	    [FLAT_VERDICT_IDLE] = "SI",
	};
	return (unsigned)verdict < FLAT_VERDICTS && flags[verdict] ? flags[verdict] : "-";
}
