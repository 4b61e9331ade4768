# bash completion of flat-run: its options, then the command's own
_flat_run() {
	local word=${COMP_WORDS[COMP_CWORD]} i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--workload | --control | --log) i=$((i + 1)) ;;
		--) i=$((i + 1)) && break ;;
		-*) ;;
		*) break ;;
		esac
	done
	if [ "$i" -lt "$COMP_CWORD" ] && declare -F _command_offset >/dev/null; then
		_command_offset "$i"
		return
	fi
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	--control) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
	--log) mapfile -t COMPREPLY < <(compgen -W "error warn info debug none" -- "$word") ;;
	--workload) ;;
	*)
		if [ "$i" -lt "$COMP_CWORD" ]; then
			mapfile -t COMPREPLY < <(compgen -f -- "$word")
		elif [[ $word == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--workload --control --off --log --help --version" -- "$word")
		else
			mapfile -t COMPREPLY < <(compgen -c -- "$word")
		fi
		;;
	esac
}
complete -F _flat_run flat-run
