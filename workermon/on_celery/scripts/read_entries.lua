-- Return definition and meta of each entry, alternating. One command for all instead of one for each.
-- If a key is of another type, its definition is '' and its meta is the server's error.
local entries_at = 1 -- KEYS[entries_at], …: hash: RedBeat's: each entry

local read = {}
for i = entries_at, #KEYS do
  local answer = redis.pcall('HMGET', KEYS[i], 'definition', 'meta')
  if answer.err then answer = {'', answer.err} end
  read[#read + 1] = answer[1]
  read[#read + 1] = answer[2]
end
return read
