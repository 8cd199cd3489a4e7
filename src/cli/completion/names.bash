
# What clap does not know: names of what there is, where a command asks for one. A table behind this says what each takes.
_sbx_list() {
    case $2 in
        containers) "$1" ps -a --format '{{.Names}}' ;;
        running) "$1" ps --format '{{.Names}}' ;;
        images) "$1" images --format '{{.Repository}}:{{.Tag}}' ;;
        roots) echo host; _sbx_list "$1" images ;;
        networks) "$1" network ls --format '{{.Name}}' ;;
        pods) "$1" pod ps --format '{{.Name}}' ;;
        secrets) "$1" secret ls --format '{{.Name}}' ;;
        volumes) "$1" volume ls -q ;;
        objects) _sbx_list "$1" containers; _sbx_list "$1" images; _sbx_list "$1" volumes ;;
        places) "$1" ps -a --format '{{.Names}}:' ;;
    esac 2>/dev/null
}

_sbx_with_names() {
    _sbx "$@"
    # bash divides words at colons: names of images have some.
    local line=${COMP_LINE:0:COMP_POINT} words kinds="" valued=" --root --log-level " path="" option="" kind=""
    local -i position=0 index
    local typed=${line##*[[:space:]]}
    read -ra words <<<"$line"
    [[ -n $typed ]] || words+=("")
    for ((index = 1; index < ${#words[@]} - 1; index++)); do
        local word=${words[index]}
        if [[ -n $option ]]; then
            option=""
        elif [[ $word == -?* ]]; then
            [[ $valued != *" $word "* ]] || option=$word
        elif ((position == 0)) && _sbx_takes "${path:+$path }$word"; then
            path="${path:+$path }$word"
        else
            position+=1
            if [[ $kinds == *" foreign" ]]; then
                # The command in the container, and its own words.
                COMPREPLY=()
                return
            fi
        fi
    done
    [[ $typed != -* ]] || return 0
    case $option in
        "")
            local -a each
            read -ra each <<<"$kinds"
            kind=${each[position]-}
            if ((${#each[@]} > 0 && position >= ${#each[@]})) && [[ ${each[-1]} == *+ ]]; then kind=${each[-1]}; fi
            ;;
        --net | --network) kind=networks ;;
        --pod) kind=pods ;;
        --secret) [[ $path == *build ]] || kind=secrets ;;
        --volumes-from) kind=containers ;;
    esac
    kind=${kind%+}
    case $kind in
        "" | other) return ;;
        places) [[ -n $typed && $typed != *[/.:]* ]] || { COMPREPLY=(); return; } ;;
    esac
    COMPREPLY=()
    local name
    while IFS= read -r name; do
        [[ $name != "$typed"* || $name == *'<none>'* ]] || COMPREPLY+=("$name")
    done < <(_sbx_list "$1" "$kind")
    if [[ $typed == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${typed%"${typed##*:}"}"}")
    fi
    case $kind in
        places) compopt -o nospace 2>/dev/null ;;
        *) compopt +o default +o bashdefault 2>/dev/null ;;
    esac
    return 0
}

complete -F _sbx_with_names -o bashdefault -o default sbx
