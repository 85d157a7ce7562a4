-- Health of a SwarmRun, for Argo CD. What each state shows, and why: README.md beside this folder.
local status = obj.status or {}
local observed = status.observedGeneration or -1
if observed < 0 then
  return { status = "Progressing", message = "the operator has not seen it yet" }
end
if observed < obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not seen generation " .. obj.metadata.generation .. " yet" }
end

local reason, message = "", ""
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    reason, message = condition.reason or "", condition.message or ""
  end
end
if message ~= "" then
  message = reason .. ": " .. message
else
  message = reason
end

-- A cancelled run did what was asked of it: nothing is left to mend.
local ends = { Succeeded = "Healthy", Cancelled = "Healthy", Failed = "Degraded" }
local waits = { AwaitingPlanApproval = true, AwaitingPublishApproval = true, Suspended = true }
local health = ends[status.phase]
if health == nil and waits[reason] then
  health = "Suspended"
end
return { status = health or "Progressing", message = message }
