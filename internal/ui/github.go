package ui

import "strings"

// command returns a workflow command of GitHub Actions, such as
// "::error title=build-engine::trtexec exited with status 1%0Ahint: …". The escapes are those of GitHub's own toolkit
// (actions/toolkit, packages/core/src/command.ts).
func command(name, title, text string) string {
	s := "::" + name
	if title != "" {
		s += " title=" + escapeProperty(title)
	}
	return s + "::" + escapeData(text) + "\n"
}

func escapeData(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

func escapeProperty(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}

// harmless breaks the old command form, which the runner finds anywhere in a line. The new one counts only at the start
// of a line, where group puts a bar.
func harmless(s string) string { return strings.ReplaceAll(s, "##[", "## [") }
