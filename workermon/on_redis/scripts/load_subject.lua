-- Read the basis of a verdict about a subject that has no record of its own.
-- Returns the configuration's revision, version and state of the alerts, and the last versions of the notifications.
local configuration = KEYS[1] -- hash: document and revision
local alerts = KEYS[2]        -- hash: version and state of the subject's alerts
local versions = KEYS[3]      -- hash: last version of each rule's notifications

return {
  redis.call('HGET', configuration, 'revision'),
  redis.call('HMGET', alerts, 'version', 'alerts'),
  redis.call('HGETALL', versions),
}
