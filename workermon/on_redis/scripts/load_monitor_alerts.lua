-- Read the basis of verdicts about the installation, and about every account and region.
-- Returns the configuration's revision and what is stored of the installation. For each account and region follow its
-- key, its fields, and the same of its alerts: version, state, and the last versions of the notifications.
local configuration = KEYS[1]  -- hash: document and revision
local accounts = KEYS[2]       -- set: keys of the accounts and regions collected from
local installation = ARGV[1]   -- the subject's id
local account_prefix = ARGV[2]
local alerts_prefix = ARGV[3]
local versions_prefix = ARGV[4]
local fields_at = 5            -- ARGV[fields_at], …: names of an account's fields

local function alerts_of(subject)
  local state = redis.call('HMGET', alerts_prefix .. subject, 'version', 'alerts')
  return {state, redis.call('HGETALL', versions_prefix .. subject)}
end

local reply = {redis.call('HGET', configuration, 'revision'), alerts_of(installation)}
for _, account in ipairs(redis.call('SMEMBERS', accounts)) do
  local fields = redis.call('HMGET', account_prefix .. account, unpack(ARGV, fields_at))
  reply[#reply + 1] = {account, fields, unpack(alerts_of(account))}
end
return reply
