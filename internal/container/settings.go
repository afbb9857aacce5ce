package container

// Configured is a [Runtime] that was found by settings of the user's, and says which. Not every runtime is one.
type Configured interface {
	// Settings are those by which the runtime was found. Nothing is asked of it.
	Settings() Settings
}

// Settings are what of a user's environment leads to a runtime, for who has to correct it.
type Settings struct {
	Variables string // the variables to correct if they are wrong: "DOCKER_HOST or DOCKER_CONTEXT"
	NamedBy   string // the setting that names the endpoint; empty for the usual one
	Version   string // the variable that sets the version of its API; empty if none does
}
