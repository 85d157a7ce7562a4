-- Health of a SwarmClass, for Argo CD. It has no status: it is what runs read when they start.
return { status = "Healthy", message = "" }
