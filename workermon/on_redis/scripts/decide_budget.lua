-- Replace the budget's decision. Returns 1, or 0 if another decision was written meanwhile.
-- Repeating a call whose answer was lost returns 1 and changes nothing.
local decision = KEYS[1]  -- string: the decision in force
local before = ARGV[1]    -- the decision that the new one is based on; '' for none
local after = ARGV[2]
local lifetime = ARGV[3]  -- seconds

local present = redis.call('GET', decision) or ''
if present == after then return 1 end
if present ~= before then return 0 end
redis.call('SET', decision, after, 'EX', lifetime)
return 1
