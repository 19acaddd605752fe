{{- define "orthofed.labels" -}}
app.kubernetes.io/name: orthofed-coordinator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "orthofed.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Nobody's account, no way to another one, no file written outside the volumes. */}}
{{- define "orthofed.locked" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}
