
# What clap does not know: names of what there is, where a command asks for one.
function __fish_sbx_names
    set -l words (commandline -opc) (commandline -ct)
    $words[1] completion --names -- $words[2..] 2>/dev/null
end

complete -c sbx -n "__fish_sbx_names >/dev/null" -f -a "(__fish_sbx_names)"
for option in net network pod secret volumes-from
    complete -c sbx -n "__fish_sbx_names >/dev/null" -l $option -x -a "(__fish_sbx_names)"
end
