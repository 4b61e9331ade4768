# bash completion of flatctl
_flatctl() {
	local word=${COMP_WORDS[COMP_CWORD]} command= i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--control) i=$((i + 1)) ;;
		-*) ;;
		*) command=${COMP_WORDS[i]} && break ;;
		esac
	done
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	--control | --svids)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	--from | --header) return ;;
	esac
	case $command in
	"") mapfile -t COMPREPLY < <(compgen -W "ls top why routes clusters trace peers ca check release reload version --control --json --help --version" -- "$word") ;;
	ca) mapfile -t COMPREPLY < <(compgen -W "init issue revoke" -f -- "$word") ;;
	check) mapfile -t COMPREPLY < <(compgen -W "--svids --json" -f -- "$word") ;;
	release) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
	top) mapfile -t COMPREPLY < <(compgen -W "--http --once --json" -- "$word") ;;
	why)
		if [[ $word == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--from --header --json" -- "$word")
		elif [ "$i" -eq $((COMP_CWORD - 1)) ]; then
			mapfile -t COMPREPLY < <(compgen -W "plain $(cd /proc && printf '%s ' [0-9]*)" -- "$word")
		elif [[ ${COMP_WORDS[COMP_CWORD - 1]} =~ ^[0-9]+$ ]]; then
			mapfile -t COMPREPLY < <(compgen -W "$(ls "/proc/${COMP_WORDS[COMP_CWORD - 1]}/fd" 2>/dev/null)" -- "$word")
		fi
		;;
	*) mapfile -t COMPREPLY < <(compgen -W "--json" -- "$word") ;;
	esac
}
complete -F _flatctl flatctl
