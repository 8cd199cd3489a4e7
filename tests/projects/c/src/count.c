#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    unsigned long lines = 0, words = 0;
    int inside = 0, c;

    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("count %s, as user %u\n", VERSION, (unsigned)getuid());
        return 0;
    }
    while ((c = getchar()) != EOF) {
        lines += c == '\n';
        words += !inside && !isspace(c);
        inside = !isspace(c);
    }
    printf("%lu lines, %lu words\n", lines, words);
    return 0;
}
