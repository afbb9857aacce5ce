package target

import "slices"

// ServeArguments are the arguments of dalirun that start the server of a request and its target again from another
// folder; the workspace and the cache are not among them. They have what the command line, the environment and the
// configuration asked of the run; what nobody asked for is left to the defaults there. What the run had no use for is
// not among them: on a command line it may be an error. Picture is the absolute path of the one to verify with; empty
// where it came through a pipe, and is gone.
func (r Request) ServeArguments(t Target, picture string) []string {
	useless := r.Situation(t.Lane, t.Source).Useless()
	var args []string
	for _, s := range r.Settings {
		if slices.Contains(useless, s.Flag) {
			continue
		}
		switch s.Flag {
		case "lock": // it is named below
			continue
		case "workspace", "cache-dir", "cache-readonly": // the caller has them
			continue
		case "force", "format", "gpu-wait", "progress", "record", "record-model", "runs-dir", "verbose": // of the one run
			continue
		case "image":
			if picture == "" {
				continue
			}
			s.Value = picture
		case "weights":
			if r.Weights.Kind == File {
				s.Value = r.Weights.Path
			}
		}
		if s.Switch {
			args = append(args, "--"+s.Flag)
			continue
		}
		args = append(args, "--"+s.Flag+"="+s.Value)
	}
	switch {
	case r.Lock.File != "": // it need not be in the other folder
		args = append(args, "--lock="+r.Lock.File)
	case r.Settings.Named("lock"):
		args = append(args, "--lock="+NoLock)
	}
	return args
}
