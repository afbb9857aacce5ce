package cli

import "os"

// caBundle is what an image build needs to trust where a proxy opens TLS. Empty where the host names no bundle.
func (a *App) caBundle() []byte {
	for _, name := range []string{a.env("SSL_CERT_FILE"), a.env("CURL_CA_BUNDLE"), a.env("REQUESTS_CA_BUNDLE")} {
		if name == "" {
			continue
		}
		if data, err := os.ReadFile(name); err == nil {
			return data
		}
	}
	return nil
}

// buildArgs pass the user's package index to image builds.
func (a *App) buildArgs() map[string]string {
	args := map[string]string{}
	if index := a.env("PIP_INDEX_URL"); index != "" {
		args["PIP_INDEX_URL"] = index
	}
	return args
}
