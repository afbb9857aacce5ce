package config

import (
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/spelling"
	"github.com/dalirun/dalirun/internal/target"
)

// Variable is the name of the environment variable of a flag.
func Variable(flag string) string {
	return target.EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Unread returns a warning for each setting that looks like one of ours and is none: files whose names only resemble
// that of the configuration, and variables with our prefix, or nearly so, that are those of no flag. Flags are those of
// all commands, environ is all variables, as NAME=value.
func Unread(environ []string, file string, flags []string) []string {
	return append(unreadFiles(file), unreadVariables(environ, flags)...)
}

func unreadFiles(file string) []string {
	var texts []string
	for _, other := range []string{
		"dalirun.yml", "." + file, ".dalirun.yml", "dalirun.json", "dalirun.toml", "Dalirun.yaml", "Dalirun.yml",
	} {
		about, err := os.Stat(other)
		if err != nil || !about.Mode().IsRegular() {
			continue
		}
		read, err := os.Stat(file)
		switch {
		case err != nil:
			texts = append(texts, other+" is not read: the configuration is called "+file)
		case !os.SameFile(about, read): // a link, or a file system that knows no capitals
			texts = append(texts, other+" is not read: "+file+" is")
		}
	}
	return texts
}

func unreadVariables(environ, flags []string) []string {
	var texts, known []string
	for _, flag := range flags {
		known = append(known, Variable(flag))
	}
	ours := regexp.MustCompile("(?i)^DALI_?RUN_")
	for _, variable := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(variable, "=")
		read := slices.Contains(known, name) || slices.Contains(scriptVariables(), name)
		if !ours.MatchString(name) || value == "" || read {
			continue
		}
		text := name + " is not read: no flag has that name"
		if strings.EqualFold(name, Variable("help")) {
			text = name + " is not read: --help is no setting"
		} else if near := spelling.Nearest(name, known); near != "" {
			text += "; " + near
		}
		texts = append(texts, text)
	}
	return texts
}

// scriptVariables are those that the scripts of a checkout read, beside which dalirun runs.
func scriptVariables() []string {
	return []string{"DALIRUN_DEBIAN_MIRROR", "DALIRUN_ENGINE_START_SECONDS", "DALIRUN_PULL_SECONDS", "DALIRUN_SCRIPT_ROOT"}
}
