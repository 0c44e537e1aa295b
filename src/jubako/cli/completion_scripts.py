"""The scripts that teach bash, zsh and fish to ask `jubako __complete` what may be typed next.

The answer is one candidate a line, `WORD<Tab>EXPLANATION`, then a last line `:nothing`, `:files` or `:directories`.
Each script handles its shell's own trouble: bash cuts words at `=` and `:`, zsh's `_describe` reads `:` as a separator.
"""

from __future__ import annotations

BASH = r"""# bash completion for jubako; load it with:  source <(jubako completion bash)
_jubako() {
    local rest=${COMP_LINE:0:COMP_POINT} words=() index piece stripped
    for ((index = 0; index <= COMP_CWORD; index++)); do
        stripped=${rest#"${rest%%[![:space:]]*}"}
        piece=${COMP_WORDS[index]}
        ((index == COMP_CWORD)) && piece=$stripped
        if [[ $stripped == "$rest" && ${#words[@]} -gt 0 ]]; then
            words[-1]+=$piece # bash cut a word at = or :
        else
            words+=("$piece")
        fi
        rest=${stripped:${#piece}}
    done
    local current=${words[-1]} lines=() line also=:nothing cut=
    mapfile -t lines < <("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null)
    [[ $COMP_WORDBREAKS == *=* && $current == *=* ]] && cut=${current%"${current##*=}"}
    [[ $COMP_WORDBREAKS == *:* && ${current#"$cut"} == *:* ]] && cut=${current%"${current##*:}"}
    COMPREPLY=()
    for line in "${lines[@]}"; do
        if [[ $line == :* ]]; then
            also=$line
        else
            line=${line%%$'\t'*}
            COMPREPLY+=("${line#"$cut"}")
        fi
    done
    [[ ${COMPREPLY[*]} == *[=:] ]] && compopt -o nospace
    case $also in
    :files) compopt -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "${current#"$cut"}") ;;
    :directories) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "${current#"$cut"}") ;;
    esac
}
complete -F _jubako jubako
"""

ZSH = r"""#compdef jubako
# zsh completion for jubako; load it with:  source <(jubako completion zsh)
_jubako() {
    local -a lines offered open
    local line word also=:nothing
    lines=("${(@f)$("${(Q)words[1]}" __complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    for line in "${lines[@]}"; do
        if [[ $line == :* ]]; then
            also=$line
        elif [[ -n $line ]]; then
            word=${line%%$'\t'*}
            if [[ $word == *[=:] ]]; then
                open+=("${word//:/\\:}:${line#*$'\t'}")
            else
                offered+=("${word//:/\\:}:${line#*$'\t'}")
            fi
        fi
    done
    (( ${#offered} )) && _describe -V jubako offered
    (( ${#open} )) && _describe -V jubako open -S ''
    case $also in
    :files) compset -P '*[=:]'; _files ;;
    :directories) compset -P '*='; _files -/ ;;
    esac
}
if [[ $funcstack[1] == _jubako ]]; then _jubako "$@"; else compdef _jubako jubako; fi
"""

FISH = r"""# fish completion for jubako; load it with:  jubako completion fish | source
function __jubako_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    for line in ($program __complete -- $words $current 2>/dev/null)
        switch $line
            case ':files' ':directories'
                set -l prefix (string match -r '^.*[=:]' -- $current)
                set -l path (string replace -r '^.*[=:]' '' -- $current)
                if test $line = ':files'
                    string replace -r '^' -- "$prefix" (__fish_complete_path $path)
                else
                    string replace -r '^' -- "$prefix" (__fish_complete_directories $path '')
                end
            case ':nothing'
            case '*'
                echo $line
        end
    end
end
complete -c jubako -f -a '(__jubako_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
