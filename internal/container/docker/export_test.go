package docker

// Endpoint returns where the engine is expected, for tests that ask it beside the Runtime.
func (r *Runtime) Endpoint() string { return r.endpoint }
